"""Synthetic sentences against the rules that generate them."""

import numpy as np
from numpy.testing import assert_allclose

from flatwide.data import made_text, words


def best_tags(sentence, emits, training_words):
    """Tag a sentence by the largest posterior probability at each position, where unknown words look alike."""

    def emission(tag, word):
        if word in training_words:
            return emits[tag].get(word, 0.0)
        return sum(share for other, share in emits[tag].items() if other not in training_words)

    seen = np.array([[emission(tag, word) for tag in made_text.TAGS] for word in sentence])
    ahead, behind = np.zeros_like(seen), np.ones_like(seen)
    before = np.eye(len(made_text.TAGS))[made_text.TAGS.index("PUNCT")]
    for position, likelihood in enumerate(seen):
        before = (before @ made_text.FOLLOWS) * likelihood
        ahead[position] = before = before / before.sum()
    for position in range(len(sentence) - 2, -1, -1):
        behind[position] = made_text.FOLLOWS @ (behind[position + 1] * seen[position + 1])
        behind[position] /= behind[position].sum()
    return [made_text.TAGS[tag] for tag in np.argmax(ahead * behind, axis=1)]


def test_tagging_is_limited_as_its_page_says():
    train, test = made_text.tagged_sentences()
    assert (len(train), len(test)) == (1_000, 300)
    assert {len(forms) for forms, _ in train} == set(range(3, 26))
    emits, training_words = made_text.emissions(), {word for forms, _ in train for word in forms}
    assert_allclose([sum(shares.values()) for shares in emits.values()], 1, rtol=1e-12)
    assert_allclose(made_text.FOLLOWS.sum(axis=1), 1, rtol=1e-12)
    truth = [tag for _, tags in test for tag in tags]
    predicted = [tag for forms, _ in test for tag in best_tags(forms, emits, training_words)]
    assert f"{np.mean([a == b for a, b in zip(predicted, truth, strict=True)]):.1%}" == "91.7%"
    unknown = np.mean([word not in training_words for forms, _ in test for word in forms])
    assert f"{unknown:.1%}" == "4.9%"


def test_tagging_is_the_same_every_time_and_has_the_words_of_its_sentences():
    dataset = made_text.made_tagging()
    assert dataset.fingerprint == made_text.made_tagging(size_window=4).fingerprint
    train, test = made_text.tagged_sentences()
    vocabulary = words.vocabulary([forms for forms, _ in train])
    assert (dataset.example.shape, dataset.example.num_values) == ((25,), 2 + len(vocabulary))
    row, (forms, tags) = dataset.test.arrays, test[0]
    assert row["inputs"][0, : len(forms)].tolist() == [vocabulary.get(word, words.UNKNOWN) for word in forms]
    assert row["targets"][0, : len(tags)].tolist() == [1 + made_text.TAGS.index(tag) for tag in tags]
    assert row["weights"].sum() == sum(len(forms) for forms, _ in test)


def share_right(rows, *, reads_not):
    """Judge reviews by counting verdicts; a draw is half right."""
    scores = []
    for row in rows:
        forms, votes = row.text.split(), 0
        for before, word in zip(["", *forms], forms, strict=False):
            vote = {"good": 1, "bad": -1}.get(word.split("-")[0], 0)
            votes += -vote if reads_not and before == "not" else vote
        scores.append(0.5 if votes == 0 else float((votes > 0) == (row.label == "1")))
    return np.mean(scores)


def test_sentiment_is_limited_as_its_page_says():
    train, test = made_text.reviews()
    assert (len(train), len(test)) == (1_000, 500)
    lengths = [len(row.text.split()) for row in (*train, *test)]
    assert (min(lengths), max(lengths)) == (3, 35)
    assert share_right(test, reads_not=True) == 1
    assert f"{share_right(test, reads_not=False):.1%}" == "68.6%"
    assert_allclose(share_right(train, reads_not=True), 0.9)
    assert 0.45 < np.mean([row.label == "1" for row in test]) < 0.55


def test_sentiment_is_the_same_every_time():
    dataset = made_text.made_sentiment()
    assert dataset.fingerprint == made_text.made_sentiment(size_window=4).fingerprint
    assert (dataset.train.num_examples, dataset.test.num_examples, dataset.num_outputs) == (1_000, 500, 2)
    assert dataset.example.shape == (35,)
    assert dataset.example.num_values == 2 + len({word for row in made_text.reviews()[0] for word in row.text.split()})
    assert dataset.test.targets.tolist() == [int(row.label) for row in made_text.reviews()[1]]
