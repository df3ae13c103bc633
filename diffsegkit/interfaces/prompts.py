"""Which tokens of a prompt are which words."""

import re
from dataclasses import dataclass


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
                for any other.

        Returns:
            Indices of tokens, in order; an occurrence of which every token was cut off, because
            the prompt is too long, is left out.
        """
        words = phrase.split()
        if not words:
            return ()
        pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, words)) + r"(?!\w)"
        found = []
        for match in re.finditer(pattern, self.text, re.IGNORECASE):
            tokens = tuple(
                index
                for index, (start, end) in enumerate(self.spans)
                if start < match.end() and match.start() < end
            )
            if tokens:
                found.append(tokens)
        return tuple(found)
