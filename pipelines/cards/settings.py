"""What only its makers know of a dataset: the section `card` of a job's configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.config import Config

Text = Annotated[str, Field(min_length=1)]


class CardSettings(Config):
    """What the dataset card says that the job cannot know. None of it changes the data.

    Attributes:
        license: As Hugging Face names it, such as `cc-by-4.0` or `other`; null: none is stated, and the card
            says so.
        license_name: Of a licence that is `other`.
        license_link: Where its text is.
        pretty_name: The card's title; null for one that says what the job made.
        source: Where the prompts or the images come from.
        language: Of prompts or captions, in codes such as `en`.
        tags: Besides those that the job sets.
        contact: Whom to ask.
    """

    license: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")] | None = None
    license_name: Text | None = None
    license_link: Text | None = None
    pretty_name: Text | None = None
    source: Text | None = None
    language: tuple[Text, ...] = ()
    tags: tuple[Text, ...] = ()
    contact: Text | None = None
