"""`holdfast request`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["request"]

FAILED, USAGE = 1, 2

EPILOG = """\b
Exit status:
  0    there was an answer
  1    the call failed: no answer, or it could not be written
  2    the command line is wrong, or no request can be made of it; nothing was sent
  3    with --fail: the answer's status is 4xx
  4    with --fail: the answer's status is 5xx
  130  it was interrupted (Ctrl-C)

\b
Examples:
  holdfast request GET /users --host 10.0.0.1:8000 --host 10.0.0.2:8000
  holdfast request POST /users --host https://api.example.org -j '{"name": "ada"}'
  holdfast request PUT /big --host a:80 --host b:80 --data @big.bin --timeout 60
"""


@click.command(epilog=EPILOG, short_help="Make one call to whichever host answers.")
@click.argument("method")
@click.argument("path")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="name:port, a URL with a base path, or unix:/path. Once for each host.",
)
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header.")
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A query parameter.")
@click.option("-j", "--json", metavar="BODY", help="A JSON body; @FILE, or - for standard input.")
@click.option(
    "-d",
    "--data",
    metavar="BODY",
    help="A body as it is; @FILE, or - for standard input. Its type is that of forms, as with "
    "curl, unless a header says otherwise.",
)
@click.option(
    "--auth",
    metavar="USER[:PASSWORD]",
    envvar="HOLDFAST_AUTH",
    show_envvar=True,
    help="Basic authentication; asks for a password that is not given.",
)
@click.option(
    "--bearer",
    metavar="TOKEN",
    envvar="HOLDFAST_BEARER",
    show_envvar=True,
    help="A bearer token.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="For the whole call with its retries; with --output until the answer begins, and for "
    "each wait after that.",
)
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    metavar="N",
    help="Further attempts at most, on another host where there is one.",
)
@click.option(
    "--balancer",
    type=click.Choice(["p2c", "peak-ewma", "round-robin"]),
    default="p2c",
    show_default=True,
    help="Which host is first.",
)
@click.option("-L", "--follow", is_flag=True, help="Follow redirects.")
@click.option(
    "--verify/--no-verify", default=True, help="Check the server's certificate.  [default: verify]"
)
@click.option(
    "--ca",
    type=click.Path(exists=True),
    metavar="FILE",
    help="Authorities to trust instead of the system's: a PEM file or a folder.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the body to a file as it comes, untouched; - for standard output.",
)
@click.option("-i", "--include", is_flag=True, help="Print the status line and the headers, too.")
@click.option("--explain", is_flag=True, help="Print the attempts as a table on standard error.")
@click.option("-f", "--fail", is_flag=True, help="Exit with 3 for 4xx and 4 for 5xx; no body then.")
def request(
    method: str,
    path: str,
    hosts: Sequence[str],
    headers: Sequence[str],
    params: Sequence[str],
    json: str | None,
    data: str | None,
    auth: str | None,
    bearer: str | None,
    timeout: float,
    retries: int,
    balancer: str,
    follow: bool,
    verify: bool,
    ca: str | None,
    output: str | None,
    include: bool,
    explain: bool,
    fail: bool,
) -> None:
    """Make one call to whichever of the hosts answers.

    METHOD is GET, POST or any other, PATH what to call below the hosts. A body of JSON is laid
    out, in colours on a terminal; any other goes to standard output as it is. Proxies are those
    of the environment (http_proxy, https_proxy, no_proxy).
    """
    if ca is not None and not verify:
        raise click.UsageError("Give --ca or --no-verify, not both.")
    names = inputs.hosts_of(hosts, path)
    options: dict[str, Any] = {
        "headers": inputs.headers_of(headers),
        "params": inputs.params_of(params),
    }
    credentials = inputs.auth_of(auth, bearer)
    body = inputs.body_of(json, data)
    if body is not None:
        options["content"] = body.content
        if not any(name.lower() == "content-type" for name, _ in options["headers"]):
            options["headers"].append(("Content-Type", body.content_type))

    from holdfast import Cluster, HoldfastError, Policy, Retry, Timeout
    from holdfast.cli.answers import Printer, complain
    from holdfast.errors import InvalidRequest

    printer = Printer(include=include, explain=explain, fail=fail)
    try:
        cluster = Cluster(
            names,
            policy=Policy(timeout=timeout, retry=Retry(attempts=retries + 1)),
            balancer=balancer,
            auth=credentials,
            follow_redirects=follow,
            verify=ca if ca is not None else verify,
            trust_env=True,
        )
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from None
    except OSError as error:
        raise click.BadParameter(f"{ca}: {error.strerror or error}.", param_hint="--ca") from None
    try:
        with cluster:
            if output is None:
                status = printer.show(cluster.request(method, path, **options))
            else:
                options["timeout"] = Timeout(total=timeout, read=timeout)
                with cluster.stream(method, path, **options) as response:
                    status = printer.save(response, output)
    except HoldfastError as error:
        printer.failed(error)
        status = USAGE if isinstance(error, InvalidRequest) else FAILED
    except BrokenPipeError:
        raise  # who read the output has gone, and wants no message
    except OSError as error:
        complain(f"{error.filename or 'the output'} cannot be written: {error.strerror or error}")
        status = FAILED
    sys.exit(status)
