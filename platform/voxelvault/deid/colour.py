"""The colour profile that stands in for any other: sRGB, without a date.

References
----------
ICC.1:2010 7.2 (profile header); DICOM PS3.3 C.11.15.
"""

from __future__ import annotations

from functools import cache

_DATE, _PLATFORM_TO_END = slice(24, 36), slice(84, 100)


@cache
def standard_profile() -> bytes:
    """Return an sRGB profile; its header's date and identity are zero, so that it is always the same."""
    from PIL import ImageCms

    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[_DATE] = bytes(12)
    data[_PLATFORM_TO_END] = bytes(16)
    return bytes(data)


__all__ = ["standard_profile"]
