"""Where a sweep's trials are kept: a journal file beside them, a database, or Optuna's gRPC proxy before one."""

import os
import pathlib
import random
import time
import warnings
from urllib.parse import urlsplit

import optuna
import sqlalchemy.exc
from absl import logging
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from jaxgan.errors import ConfigError

# What a storage that cannot be reached for a moment raises.
UNREACHABLE: tuple[type[Exception], ...] = (optuna.exceptions.StorageInternalError, OSError)
try:
    import grpc
except ImportError:
    grpc = None
else:
    UNREACHABLE = (*UNREACHABLE, grpc.RpcError)

_WAIT = 10.0  # seconds for a proxy to answer
_ATTEMPTS = 4  # at a database


def open_storage(url: str, workdir: str | os.PathLike) -> BaseStorage:
    """The storage that `--storage` names.

    Args:
        url: "" for a journal file in the sweep's folder; grpc://host:port; or an address that SQLAlchemy knows, such as
            postgresql://user:password@host/database.
        workdir: the sweep's folder, which exists.

    Raises:
        ConfigError: it cannot be reached, or a package is missing.
    """
    if not url:
        return JournalStorage(JournalFileBackend(str(pathlib.Path(workdir) / "study.journal")))
    try:
        return _proxy(url) if url.startswith("grpc://") else _database(url)
    except ImportError as error:
        raise ConfigError(f"--storage={_safe(url)} needs a package that is not installed: {error}; see docs/sweeps.md")
    except (sqlalchemy.exc.SQLAlchemyError, *UNREACHABLE) as error:
        raise ConfigError(f"cannot open --storage={_safe(url)}: {str(error).strip().splitlines()[0]}")


def _database(url: str) -> BaseStorage:
    """Of workers that open an empty database at once, only one makes its tables; the others meet them half made."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return RDBStorage(url)
        except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError) as error:
            logging.debug("trying again: %s", error)
            time.sleep(0.5 + random.random())
    return RDBStorage(url)


def _proxy(url: str) -> BaseStorage:
    if grpc is None:
        raise ImportError("pip install grpcio protobuf")
    parts = urlsplit(url)
    if not (parts.hostname and parts.port):
        raise ConfigError(f"--storage={url}: a proxy is named as grpc://host:port")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = GrpcStorageProxy(host=parts.hostname, port=parts.port)
    proxy.wait_server_ready(timeout=_WAIT)
    return proxy


def _safe(url: str) -> str:
    """Without its password."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
