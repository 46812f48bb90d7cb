"""What the words of a page mean, for a reader who has not read the paper; docs/glossary.md has the long form."""

from collections.abc import Iterable

from flatwide import catalogue
from flatwide.columns import RESULT_FIELDS

_ALWAYS = {
    "SAM": "sharpness-aware minimization: each step takes the gradient not where the weights are, but a distance ρ "
    "uphill from there, so that training ends where the loss stays low all around",
    "base": "the optimizer that SAM wraps, alone: the same run at ρ = 0",
    "rho (ρ)": "how far uphill SAM looks, as a distance between weights",
    "width": "the size that grows along a family of networks, and with it the number of parameters",
    "seed": "the number that decides initial weights, data order and all else that is random; the SAM and base run of "
    "a seed share all of it, so they are compared as a pair",
    "gain": "mean over seeds of SAM − base, with the sign that makes positive mean that SAM is better",
    "best rho": "the rho of the grid with the best mean over seeds, among those without a diverged seed",
    "corrected gain": "the gain with each seed scored at the rho that the other seeds choose, which takes the luck of "
    "picking the best out of it",
    "95 % interval": "made by a rule that covers the truth in 95 of 100 studies; with few seeds it is wide",
    "points": "percentage points: from 90 % to 92 % are two points",
    "diverged": "the loss stopped being finite; such a run has no metric, and its rho cannot be the best",
}
# Of runs that were trained elsewhere it is not known what a seed decides.
_OF_OTHERS = {
    "seed": "the number that a run repeats a setting under; the SAM and base run of a seed are compared as a pair"
}
_SOMETIMES = {
    "collapsed": "the loss stayed finite, and the network is no better than a prediction that ignores its inputs, such "
    "as always the most frequent class; an accuracy counts as no better where the lower end of its exact 95 % interval "
    "is at most that",
    "interpolation": "fitting all labels of the training examples, wrong ones included",
    "equal compute": "against a base that was trained by as many gradients, of which SAM takes two a step",
    "label noise": "the share of training labels that were replaced by wrong ones; test labels stay right",
    "sparsity": "the share of weights that are zero from the start and stay so",
}


def terms(text: str, *, columns: Iterable[str], are_ours: bool = True) -> list[tuple[str, str]]:
    """Explain the words that a page uses.

    Args:
      text: all that it says.
      columns: those of its table of runs.
      are_ours: whether flatwide trained the runs.
    """
    text = text.lower().replace("interpolates", "interpolation").replace("_", " ")
    measured = {word: meaning for one in catalogue.MEASUREMENTS.values() for word, meaning in one.terms.items()}
    sometimes = measured | _SOMETIMES
    found = _ALWAYS | ({} if are_ours else _OF_OTHERS)
    found |= {word: meaning for word, meaning in sometimes.items() if word.lower() in text}
    shown = {name.replace("_", " "): RESULT_FIELDS[name].text for name in columns if name in RESULT_FIELDS}
    return list((found | shown).items())
