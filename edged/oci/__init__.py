"""OCI images of models: pulled, kept, read, written, unpacked. No policy.

``open_image`` finds one by reference, in a folder, an archive or a registry; ``BlobStore`` fetches
and keeps them; ``Image.unpack_model`` takes the model out safely; ``write_image`` makes one.
``keys`` and ``signature`` say who made an image.
"""

from edged.oci import blobs, companion, facts, keys, signature
from edged.oci.blobs import BlobStore
from edged.oci.digest import Digest, VerifiedReader
from edged.oci.facts import ModelFacts
from edged.oci.image import Image, load_image, open_image, write_image
from edged.oci.layout import LayoutArchive, LayoutFolder, write_archive
from edged.oci.reference import Reference
from edged.oci.registries import Access, Registries
from edged.oci.unpack import Limits

__all__ = [
    "Access",
    "BlobStore",
    "Digest",
    "Image",
    "LayoutArchive",
    "LayoutFolder",
    "Limits",
    "ModelFacts",
    "Reference",
    "Registries",
    "VerifiedReader",
    "blobs",
    "companion",
    "facts",
    "keys",
    "load_image",
    "open_image",
    "signature",
    "write_archive",
    "write_image",
]
