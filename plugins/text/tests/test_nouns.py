"""Nouns of captions, as a reader would list them."""

import sys
from types import SimpleNamespace

import pytest

from diffsegkit.errors import ComponentError, UsageError
from diffsegkit_text import nouns_of


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("a cat laying on a couch", "cat couch"),
        ("a black and white photo of a dog", "photo dog"),
        ("two giraffes standing next to each other in a field", "giraffes field"),
        ("a man riding a wave on top of a surfboard", "man wave surfboard"),
        ("a bowl of soup and a spoon on a table.", "bowl soup spoon table"),
        ("there is a red fire hydrant on the side of the street", "hydrant street"),
        ("a woman sits on a bed in front of a tall building", "woman bed building"),
        ("Sky, sea; Sky", "sky sea"),
        ("a baseball player swinging a bat at a ball", "player bat ball"),
        ("", ""),
        ("of the and", ""),
        ("a piece of café's cake", "piece cake"),
    ],
)
def test_captions(caption, nouns):
    assert nouns_of(caption) == tuple(nouns.split())


def test_nltk_is_asked_if_it_is_wanted(monkeypatch):
    tags = {"cat": "NN", "couch": "NN", "paris": "NNP"}
    fake = SimpleNamespace(pos_tag=lambda words: [(word, tags.get(word, "DT")) for word in words])
    monkeypatch.setitem(sys.modules, "nltk", fake)
    assert nouns_of("a cat on the couch, in Paris", "nltk") == ("cat", "couch", "paris")

    def absent(words):
        raise LookupError("averaged_perceptron_tagger_eng")

    monkeypatch.setattr(fake, "pos_tag", absent)
    with pytest.raises(UsageError, match="nltk.downloader averaged_perceptron_tagger_eng"):
        nouns_of("a cat", "nltk")


def test_without_nltk_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ComponentError, match=r"pip install 'diffsegkit-text\[nltk\]'"):
        nouns_of("a cat", "nltk")
