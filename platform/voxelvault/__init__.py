"""voxelvault: a sealed vault for medical images that a data scientist opens from a notebook.

Not a medical device.

>>> import voxelvault as vv                                       # doctest: +SKIP
>>> vault = vv.open("~/vault", purpose="IRB-2031")                # doctest: +SKIP
>>> vault.series("1.2.840…").load()                               # doctest: +SKIP
"""

from voxelvault import errors
from voxelvault.entering import create, open
from voxelvault.vault import Vault

__version__ = "0.1.0"

__all__ = ["Vault", "__version__", "create", "errors", "open"]
