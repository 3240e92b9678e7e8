"""Where the hosts of a cluster come from: a list, a function, DNS, or a file."""

from holdfast.cluster.discovery.dns import DNS
from holdfast.cluster.discovery.file import File
from holdfast.cluster.discovery.function import Function
from holdfast.cluster.discovery.protocol import Discovery
from holdfast.cluster.discovery.static import Static

__all__ = ["DNS", "Discovery", "File", "Function", "Static"]
