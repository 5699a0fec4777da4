"""TLS of a link: trust, and the certificate to show, from the settings."""

from __future__ import annotations

import ssl

from config.failures import ExitCode, Failure
from config.settings import Link


def tls_context(link: Link) -> ssl.SSLContext | None:
    """The context for a link, TLS 1.2 or later; None where the settings ask for no TLS.

    Raises:
        Failure: a file is missing or is no certificate or key.
    """
    if not link.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=link.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if link.cert_file is not None:
            context.load_cert_chain(link.cert_file, link.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(f) for f in (link.ca_file, link.cert_file, link.key_file) if f)
        raise Failure(ExitCode.CONFIG, f"TLS: cannot load {files}: {error}") from None
    return context
