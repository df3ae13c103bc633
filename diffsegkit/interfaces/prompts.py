"""Which tokens of a prompt are which words."""

import re
from dataclasses import dataclass
from itertools import pairwise
from unicodedata import combining, normalize


@dataclass(frozen=True)
class TokenisedPrompt:
    """A prompt, and which of its characters each token stands for.

    A word may be several tokens ("surfboard" is "surf" and "board" to CLIP), so the number of a
    word is not that of its token.

    Args:
        text: The prompt.
        spans: For each of the T tokens the characters of ``text`` that it stands for, from the
            first to the one after the last; ``(0, 0)`` for special and padding tokens.

    Example:
        >>> spans = ((0, 0), (0, 1), (2, 6), (6, 11), (0, 0))
        >>> TokenisedPrompt("a surfboard", spans).tokens_of("Surfboard")
        ((2, 3),)
    """

    text: str
    spans: tuple[tuple[int, int], ...]

    def tokens_of(self, phrase: str) -> tuple[tuple[int, ...], ...]:
        """The tokens of a word or phrase, for each time that it occurs.

        Args:
            phrase: Whole words are looked for, in capitals or not; any white space in it stands
                for any other. Whether an accent is a character of its own makes no difference.

        Returns:
            Indices of tokens, in order; an occurrence of which every token was cut off, because
            the prompt is too long, is left out.
        """
        words = normalize("NFC", phrase).split()
        if not words:
            return ()
        pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + r"(?!\w)"
        found = []
        text, places = _composed(self.text)
        for match in re.finditer(pattern, text, re.IGNORECASE):
            first, last = places[match.start()], places[match.end()]
            tokens = tuple(
                index
                for index, (start, end) in enumerate(self.spans)
                if start < last and first < end
            )
            if tokens:
                found.append(tokens)
        return tuple(found)


def _composed(text: str) -> tuple[str, list[int]]:
    r"""A text in normal form C, as CLIP reads it, and where it is from.

    Args:
        text: Any.

    Returns:
        The composed text, and for each of its characters, and its end, the index of the character
        of ``text`` with which it begins.

    Example:
        >>> _composed("e\N{COMBINING ACUTE ACCENT}a")
        ('éa', [0, 2, 3])
    """
    starts = [index for index, each in enumerate(text) if index == 0 or not combining(each)]
    parts = [normalize("NFC", text[start:end]) for start, end in pairwise([*starts, len(text)])]
    places = [start for start, part in zip(starts, parts, strict=True) for _ in part]
    return "".join(parts), [*places, len(text)]
