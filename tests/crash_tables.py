"""What counts as I/O: for each name that an I/O function has, whether its calls change anything.

`tests/crash_points.py` reads the source by these tables. A name that is in none of them fails the
tests: decide here whether a call of it changes a disk or sends something.
"""

from __future__ import annotations

# Each such call is a site; for some it depends on their arguments: `crash_points._acts`.
PRIMITIVES = frozenset(
    {
        *("write", "write_text", "flush", "fsync", "pwrite", "savez", "copyfile", "open"),
        *("replace", "unlink", "touch", "mkdir", "symlink_to", "TemporaryDirectory"),
        *("truncate", "ftruncate", "posix_fallocate", "chown", "fchown", "rmtree"),
        *("connect", "execute", "executescript", "close"),
        *("publish", "subscribe", "unsubscribe"),
    }
)

# What leaves everything as it is.
READS = frozenset(
    {
        *(
            "exists",
            "stat",
            "fstat",
            "fstatvfs",
            "is_file",
            "is_dir",
            "is_symlink",
            "readlink",
            "with_name",
        ),
        *("read", "read_bytes", "read_text", "pread", "memmap", "seek", "fileno", "fetchone"),
        *("fetchall", "geteuid", "readline", "fdopen", "NamedTemporaryFile"),
        *("glob", "iterdir", "scandir", "expanduser", "disk_usage"),
        *(
            "getpid",
            "urandom",
            "cpu_count",
            "sched_getaffinity",
            "madvise",
            "strerror",
            "flock",
            "ioctl",
            "wait",
        ),
    }
)

# Calls of what is ours, or of no file at all: the sites are in there, if there are any.
OURS = frozenset(
    {
        *("write", "save", "read", "resolve", "Connection", "versions.save", "spool.sync"),
        *("self._spool.write", "self._store.write", "self._reporter.write", "sink.write"),
        *("self._spool.sync", "press.flush"),
        *("self._spool.open", "self._outbox.commit", "self._board.touch", "ledger.execute"),
        *("connection.publish", "connection.subscribe", "connection.unsubscribe"),
        *("os.close", "sink.close", "fetch.close", "self._fetch.close", "self._trainer.close"),
        *("self.progression.accept", "self.judgement.accept", "self.tell", "self._shell.tell"),
        *("replace", "self.link", "send", "link.sendall"),  # of dataclasses; of who joins
        # Sinks: a thread, and what it hands to libraries that nothing here depends on.
        *("self._thread.write", "self._thread.close", "log.close", "writer.close"),
        *("self._lineage.close", "images[index].copy", "folder.absolute"),
        *("path.resolve", "path.resolve().as_uri"),
        *(
            "sqlite3.IntegrityError",
            "log.error",
            "self._inner.send",
            "self._outside.send",
            "link.sendto",
            "os.kill",
        ),
    }
)

# Functions that publish messages of several kinds: which, by role.
SENT: dict[str, dict[str, tuple[str, ...]]] = {
    "coordinator/broadcast.py Broadcast.go_on": {"coordinator": ("Chunk", "Header")},
    "federation/shell.py Shell.run": {
        "coordinator": ("CoordinatorPresence", "Header", "Want", "Receipt", "Pace"),
        "agent": ("DevicePresence", "Hello", "Offer", "Request"),
    },
}
