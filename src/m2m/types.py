"""Words that every part shares: axes, spaces, value ranges, and the one error that is meant for a person.

Axes:   B sets of a batch · N images of a set · C latent channels · h, w latent height and width ·
        L tokens of one image at one U-Net level (h*w there, or the tokens of a vision encoder) · D token channels.
Spaces: pixels   float32 in [-1, 1], [B, N, 3, H, W]; uint8 only where a file is read or written.
        latents  what the U-Net sees, already scaled by the autoencoder's factor, [B, N, C, h, w].
        tokens   [B, N, L, D].
        keys and values [B, N, L, heads, head_dim]: images before tokens, so that the first n images of a set are one
        sequence of n*L keys without a copy.
"Context" means the clean, preceding images; "target" the noisy image that is being denoised.
"""

from __future__ import annotations


class UserError(ValueError):
    """A mistake that the user can mend. Its message is one line: what was wrong, where, and what would be right.

    The command line prints the message alone and exits with code 2; library users catch it as a ``ValueError``.
    """


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line for a message of ours; its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
