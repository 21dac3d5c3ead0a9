"""The world's captions, splits and partial scenes."""

from collections import Counter

import numpy as np

from examples.shapes.world import (
    UNSEEN_PAIRS,
    Scene,
    Thing,
    caption,
    caption_words,
    forget,
    one_object_scenes,
    scenes,
    split_of,
    spoken,
    two_object_scenes,
)

ONE = Scene(
    things=(Thing(shape="circle", color="red", size="small", place="left"),),
    background="white",
)
TWO = Scene(
    things=(
        Thing(shape="circle", color="red", size="small", place="top"),
        Thing(shape="square", color="blue", size="small", place="bottom"),
    ),
    background="gray",
)


def test_a_caption_says_every_attribute() -> None:
    assert caption(ONE) == "a small red circle on the left, on a white background"
    assert (
        caption(spoken(TWO))
        == "a red circle at the top and a blue square at the bottom, on a gray background"
    )


def test_what_is_left_unsaid_is_not_in_the_caption() -> None:
    assert caption(Scene(things=(Thing(color="red"),))) == "a red shape"


def test_captions_are_unique_and_use_known_words() -> None:
    captions = [caption(spoken(scene)) for scene in (*one_object_scenes(), *two_object_scenes())]
    words = {word for text in captions for word in text.replace(",", "").split()}
    assert len(set(captions)) == len(captions) == 720 + 3456
    assert words < set(caption_words())


def test_a_scene_survives_json() -> None:
    for scene in (ONE, TWO, spoken(TWO), Scene(things=(Thing(),))):
        assert Scene.from_json(scene.to_json()) == scene


def test_every_scene_is_in_one_split_and_each_split_has_its_share() -> None:
    for num_objects, everything in ((1, list(one_object_scenes())), (2, list(two_object_scenes()))):
        counts = Counter(split_of(scene) for scene in everything)
        for split, count in counts.items():
            assert len(scenes(split, num_objects=num_objects)) == count
        seen_pairs = len(everything) - counts["unseen"]
        assert 0.05 < counts["validation"] / seen_pairs < 0.11
        assert 0.09 < counts["test"] / seen_pairs < 0.15


def test_an_unseen_pair_is_in_no_other_split() -> None:
    for split in ("train", "validation", "test"):
        for num_objects in (1, 2):
            for scene in scenes(split, num_objects=num_objects):
                assert not any((thing.shape, thing.color) in UNSEEN_PAIRS for thing in scene.things)


def test_forgetting_leaves_the_places_of_two_shapes() -> None:
    rng = np.random.default_rng(0)
    assert forget(ONE, rng, 1.0) == Scene(things=(Thing(),))
    assert forget(TWO, rng, 1.0) == Scene(things=(Thing(place="top"), Thing(place="bottom")))
    assert forget(ONE, rng, 0.0) == ONE
