"""The nouns of a caption."""

import re
from typing import Literal

from diffsegkit.errors import ComponentError, UsageError

Tagger = Literal["rule", "nltk"]
"""How nouns are told: by a rule that needs nothing, or by NLTK's tagger."""

_PARTICIPLE = re.compile(r"[a-z]{2,}(ing|ed)$")
# What ends a noun phrase in a caption: the closed classes of English, and words for place.
_CLOSED = """
a an the this that these those some any each every no another other both all many much few several
various lot lots couple pair group bunch i you he she it we they me him her us them my your his its
our their one ones who whom whose which what there here of in on at by for with without from to into
onto off over under above below behind beside besides between among around near next against along
across through during before after up down out inside outside toward towards about upon like than as
per via and or but nor so yet while when where if because then is are was were be been being am do
does did has have had having can could will would shall should may might must not very too also just
only still quite rather more most less least front back top bottom left right middle side close
together two three four five six seven eight nine ten eleven twelve
"""
# Verbs that captions have in the third person, and adjectives for colour and size.
_VERBS_AND_ADJECTIVES = """
sits stands lies lays holds wears looks walks runs rides plays eats flies jumps hangs
red orange yellow green blue purple pink brown black white gray grey big small large little tall
short long old young new
"""
_NOT_NOUNS = frozenset((_CLOSED + _VERBS_AND_ADJECTIVES).split())
# Nouns that look like participles.
_LIKE_PARTICIPLES = """
bed sled shed seed weed steed king ring wing string spring swing thing ceiling building clothing
painting morning evening wedding railing awning pudding sibling icing bedding lightning drawing
"""
_NOUNS_LIKE_PARTICIPLES = frozenset(_LIKE_PARTICIPLES.split())


def nouns_of(text: str, tagger: Tagger = "rule") -> tuple[str, ...]:
    """The nouns of an English caption, each once, in the order in which they occur.

    The original takes them with NLTK's tagger (google/diffseg, diffseg.ipynb, section 3), whose
    data have to be downloaded. The rule needs nothing: the caption is cut at articles,
    prepositions, conjunctions, auxiliaries, participles, and words for colour and size; the last
    word of each piece is a noun. That suits the short captions of BLIP ("a cat laying on a couch"),
    and not prose: a verb or an adjective that the rule does not know passes for a noun.

    Args:
        text: A caption.
        tagger: ``"rule"``, or ``"nltk"`` with the extra ``nltk`` and its data.

    Returns:
        Nouns in lower case.

    Raises:
        ComponentError: If NLTK is not installed.
        UsageError: If its data are not there.

    Example:
        >>> nouns_of("a black cat laying on a couch next to two remote controls")
        ('cat', 'couch', 'controls')
    """
    words = re.findall(r"[^\W\d_](?:[\w'’-]*\w)?|[.,;:!?]", text.lower())
    found = _by_nltk(words) if tagger == "nltk" else _by_rule(words)
    return tuple(dict.fromkeys(found))


def _by_rule(words: list[str]) -> list[str]:
    heads: list[str] = []
    piece: str | None = None
    for word in [*words, "."]:
        participle = bool(_PARTICIPLE.match(word)) and word not in _NOUNS_LIKE_PARTICIPLES
        ends = word in _NOT_NOUNS or participle or not word[0].isalpha()
        if ends and piece is not None:
            heads.append(piece)
        piece = None if ends else word
    return heads


def _by_nltk(words: list[str]) -> list[str]:
    try:
        import nltk  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        if error.name != "nltk":
            raise
        raise ComponentError(
            "Nouns by NLTK need nltk: pip install 'diffsegkit-text[nltk]'; or use tagger 'rule'."
        ) from error
    try:
        tagged = nltk.pos_tag(words)
    except LookupError as error:
        raise UsageError(
            "NLTK has no data for its tagger here; fetch them with `python -m nltk.downloader "
            "averaged_perceptron_tagger_eng`, or use tagger 'rule'."
        ) from error
    return [word for word, tag in tagged if tag in ("NN", "NNS", "NNP", "NNPS")]
