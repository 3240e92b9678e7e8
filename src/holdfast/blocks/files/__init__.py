"""Files and folders as blocks: put, get, ls, verify, and open."""

from holdfast.blocks.files.clients import AsyncFiles, Entry, Files
from holdfast.blocks.files.errors import FilesError, Problem
from holdfast.blocks.files.getting import Got
from holdfast.blocks.files.progress import Progress
from holdfast.blocks.files.putting import Put
from holdfast.blocks.files.reader import BlockFile
from holdfast.blocks.files.status import Mount, ServiceStatus
from holdfast.blocks.files.verifying import Block, Copy, Verified
from holdfast.blocks.segments import Manifest, ManifestError, Segment

__all__ = [
    "AsyncFiles",
    "Block",
    "BlockFile",
    "Copy",
    "Entry",
    "Files",
    "FilesError",
    "Got",
    "Manifest",
    "ManifestError",
    "Mount",
    "Problem",
    "Progress",
    "Put",
    "Segment",
    "ServiceStatus",
    "Verified",
]
