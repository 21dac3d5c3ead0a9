"""Which duplicates are looked for."""

from pydantic import Field, PositiveInt

from pipelines.config import Config


class NearSettings(Config):
    """Near-duplicates: perceptual hashes that differ in few bits.

    Attributes:
        column: Of the hashes, uint64. Images of one colour all have the hash 0: they are pairs whatever the
            colour.
        max_hamming: Bits, of 64. All pairs within it are found; beyond 8 the search becomes slow.
    """

    column: str = "phash"
    max_hamming: int = Field(default=6, ge=0, le=16)


class SemanticSettings(Config):
    """Images that mean the same (SemDeDup, Abbas et al. 2023): embeddings of one cluster that point one way.

    Attributes:
        column: Of the embeddings.
        min_cosine: From which on two images are a pair.
        num_clusters: Null for the square root of the number of images. Pairs across clusters are not found;
            fewer clusters find more and take longer.
        probes: Clusters that each image belongs to: those whose centres are nearest. 2 find pairs on both
            sides of a border, and take four times as long as 1.
        sample: Images that the clusters' centres are made from, at most; null for 32 a cluster.
        seed: Of that sample and of the first centres.
    """

    column: str = "clip_vit_l_14_embedding"
    min_cosine: float = Field(default=0.95, gt=0, le=1)
    num_clusters: PositiveInt | None = None
    probes: int = Field(default=2, ge=1, le=4)
    sample: PositiveInt | None = None
    seed: int = Field(default=0, ge=0)


class DedupSettings(Config):
    """Which duplicates are looked for.

    Attributes:
        exact: Equal bytes.
        near: Null to leave them.
        semantic: Null to leave them; needs a clip scorer with `embedding: true`.
        against: Scores of other datasets, whose copies in this one are looked for too: of the training set of
            a model that has generated this one, for instance.
    """

    exact: bool = True
    near: NearSettings | None = NearSettings()
    semantic: SemanticSettings | None = None
    against: tuple[str, ...] = ()
