"""Synthetic sentences for tagging and sentiment, drawn from fixed seeds: no download needed."""

import numpy as np

from flatwide.data import conllu, labelled_text, words
from flatwide.types import Dataset

_SEED = 0  # not config.seed: the sentences are the same for every run
_NUM_TRAIN, _NUM_TEST = 1_000, 300
_SHORTEST, _LONGEST = 3, 25

TAGS = ("ADJ", "ADV", "DET", "NOUN", "PREP", "PRON", "PUNCT", "VERB")
# The probabilities of the next tag, a row for each; the first tag of a sentence is one that follows PUNCT.
FOLLOWS = np.array(
    [
        [0.10, 0.02, 0.01, 0.75, 0.04, 0.01, 0.04, 0.03],
        [0.25, 0.10, 0.08, 0.04, 0.12, 0.06, 0.10, 0.25],
        [0.30, 0.03, 0.00, 0.66, 0.00, 0.00, 0.00, 0.01],
        [0.03, 0.07, 0.04, 0.12, 0.22, 0.04, 0.18, 0.30],
        [0.12, 0.02, 0.50, 0.26, 0.00, 0.09, 0.00, 0.01],
        [0.03, 0.12, 0.04, 0.02, 0.08, 0.01, 0.10, 0.60],
        [0.08, 0.10, 0.35, 0.15, 0.10, 0.17, 0.00, 0.05],
        [0.08, 0.14, 0.28, 0.08, 0.18, 0.10, 0.12, 0.02],
    ]
)
# How many words each tag has of its own: of rank r with probability in proportion to 1 / r.
_NUM_WORDS = {"ADJ": 800, "ADV": 300, "DET": 6, "NOUN": 2000, "PREP": 12, "PRON": 8, "PUNCT": 3, "VERB": 1000}
# Pairs of tags that share words, and how many; a word of either is one of these with probability _SHARED.
_PAIRS = {("NOUN", "VERB"): 60, ("ADJ", "NOUN"): 40, ("ADV", "PREP"): 8, ("ADJ", "VERB"): 20}
_SHARED = 0.6


def made_tagging(*, size_window: int = 16) -> Dataset:
    """Make 1,000 training and 300 test sentences of 3 to 25 words, whose words have one of eight parts of speech.

    Tags form a Markov chain, and each tag emits a word. Three fifths of the words of five tags are spelled like words
    of another tag, so that only their neighbours distinguish them. 4.9 % of the test words occur in no training
    sentence and so all look alike: the Bayes-optimal tagger of whole sentences is right on 91.7 % of the test words,
    and a network exceeds that only by chance. A network that is large enough memorizes the training tags.

    Args:
      size_window: as for `conllu`.
    Returns: a data set as `conllu` returns it.
    Equation: P(tags, words) = prod_l follows(tag_(l-1), tag_l) emits(tag_l, word_l), `FOLLOWS` and `emissions()`.
    """
    train, test = tagged_sentences()
    vocabulary = words.vocabulary([forms for forms, _ in train])
    return conllu.dataset(train, test, vocabulary=vocabulary, tags=TAGS, size_window=size_window)


def tagged_sentences() -> tuple[list[tuple[list[str], list[str]]], list[tuple[list[str], list[str]]]]:
    """Draw the training and the test sentences: the words and the tags of each."""
    random = np.random.default_rng(_SEED)
    first, follows, emits = TAGS.index("PUNCT"), np.cumsum(FOLLOWS, axis=1), emissions()
    spellings, ends = [list(emits[tag]) for tag in TAGS], [np.cumsum(list(emits[tag].values())) for tag in TAGS]

    def drawn(ends: np.ndarray) -> int:
        return int(np.searchsorted(ends, random.random() * ends[-1], side="right"))

    def sentence() -> tuple[list[str], list[str]]:
        length = _SHORTEST + int(random.random() * (_LONGEST - _SHORTEST + 1))
        forms, tags, tag = [], [], first
        for _ in range(length):
            tag = drawn(follows[tag])
            tags.append(TAGS[tag])
            forms.append(spellings[tag][drawn(ends[tag])])
        return forms, tags

    rows = [sentence() for _ in range(_NUM_TRAIN + _NUM_TEST)]
    return rows[:_NUM_TRAIN], rows[_NUM_TRAIN:]


def emissions() -> dict[str, dict[str, float]]:
    """Return the probability of each word, for each tag."""
    probabilities: dict[str, dict[str, float]] = {}
    for tag, count in _NUM_WORDS.items():
        pairs = [pair for pair in _PAIRS if tag in pair]
        unshared = 1 - _SHARED if pairs else 1.0
        probabilities[tag] = _by_rank(f"{tag.lower()}", count, unshared)
        for pair in pairs:
            probabilities[tag] |= _by_rank("-".join(pair).lower(), _PAIRS[pair], (1 - unshared) / len(pairs))
    return probabilities


def _by_rank(name: str, count: int, total: float) -> dict[str, float]:
    shares = 1 / np.arange(1, count + 1)
    return {f"{name}-{rank}": total * share / shares.sum() for rank, share in enumerate(shares, 1)}


_NUM_REVIEWS, _NUM_TEST_REVIEWS = 1_000, 500
_WRONG = 0.1  # of the training labels
_NEGATED = 0.3  # of the verdicts
_NUM_THINGS, _NUM_VERDICTS, _NUM_FILLERS = 300, 80, 40


def made_sentiment(*, size_window: int = 16) -> Dataset:
    """Make 1,000 training and 500 test reviews of 3 to 35 words, negative (0) or positive (1).

    A review is one, three or five clauses, each with a thing, a positive or negative verdict, and fillers; `not` before
    the verdict reverses it (3 of 10). The label is that of most clauses. A tenth of the training labels, drawn at
    random, is wrong, and those of the test reviews are right, so memorizing the training labels does harm. Counting
    verdicts without regard to `not` is right on 68.6 % of the test reviews, and with regard to it on all of them.

    Args:
      size_window: as for `labelled_text`.
    """
    train, test = (labelled_text.Table("synthetic reviews", rows) for rows in reviews())
    return labelled_text.dataset(train, test, ["0", "1"], split=str.split, size_window=size_window)


def reviews() -> tuple[list[labelled_text.Row], list[labelled_text.Row]]:
    """Draw the training and the test reviews."""
    random = np.random.default_rng(_SEED)
    things, fillers, *verdicts = (
        (list(shares), np.cumsum(list(shares.values())))
        for shares in (
            _by_rank("thing", _NUM_THINGS, 1.0),
            _by_rank("filler", _NUM_FILLERS, 1.0),
            _by_rank("bad", _NUM_VERDICTS, 1.0),
            _by_rank("good", _NUM_VERDICTS, 1.0),
        )
    )

    def drawn(spellings: list[str], ends: np.ndarray) -> str:
        return spellings[int(np.searchsorted(ends, random.random() * ends[-1], side="right"))]

    def clause() -> tuple[list[str], int]:
        kind, is_negated = int(random.random() < 0.5), random.random() < _NEGATED
        before = [drawn(*fillers) for _ in range(int(random.random() * 3))]
        after = [drawn(*fillers) for _ in range(int(random.random() * 3))]
        verdict = [*(["not"] if is_negated else []), drawn(*verdicts[kind])]
        return [drawn(*things), *before, *verdict, *after, "."], kind ^ is_negated

    def review(line: int) -> labelled_text.Row:
        clauses = [clause() for _ in range(1 + 2 * int(random.random() * 3))]
        label = int(2 * sum(kind for _, kind in clauses) > len(clauses))
        return labelled_text.Row(line, " ".join(word for forms, _ in clauses for word in forms), str(label))

    rows = [review(line) for line in range(1, _NUM_REVIEWS + _NUM_TEST_REVIEWS + 1)]
    for i in np.argsort(random.random(_NUM_REVIEWS))[: round(_WRONG * _NUM_REVIEWS)]:
        rows[i] = rows[i]._replace(label=str(1 - int(rows[i].label)))
    return rows[:_NUM_REVIEWS], rows[_NUM_REVIEWS:]
