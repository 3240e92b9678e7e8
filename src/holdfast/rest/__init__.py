"""JSON resources on one host, a pool, many hosts, shards and replicas.

`Resource` is one connection to one host, `Pool` a thread-safe pool of them, `Resources` many hosts
with simple partitioning or replication, `Shards` hosts partitioned by keys, `Replicas` hosts that
replicate each other. Each has its counterpart for asyncio, with the same methods to await.
"""

from holdfast.rest.pools import AsyncPool, Pool
from holdfast.rest.replicas import AsyncReplicas, Replicas
from holdfast.rest.resource import AsyncResource, Resource
from holdfast.rest.resources import AsyncResources, Resources
from holdfast.rest.response import Response, ResponseError
from holdfast.rest.shards import AsyncShards, Shards

__all__ = [
    "AsyncPool",
    "AsyncReplicas",
    "AsyncResource",
    "AsyncResources",
    "AsyncShards",
    "Pool",
    "Replicas",
    "Resource",
    "Resources",
    "Response",
    "ResponseError",
    "Shards",
]
