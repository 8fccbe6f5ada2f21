"""What a link is encrypted with: one file of PEM that all hosts of a deployment have."""

import ssl
from functools import lru_cache

from crew.errors import SettingsInvalid


@lru_cache(maxsize=4)
def contexts(file: str) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Return what who listens uses, and who dials: nothing where there is no file.

    Each end shows the certificate of the file, and takes no other: names and addresses of hosts
    come and go, so that they are not looked at.

    Args:
        file: a path of PEM with a private key and its certificate.

    Raises:
        SettingsInvalid: it is no such file.
    """
    if not file:
        return None, None
    listens = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    dials = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dials.check_hostname = False
    for context in (listens, dials):
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(file)
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsInvalid(
                message=f"CREW_LINK_TLS is {file!r}; it must be a file of PEM with a key and its "
                f"certificate ({error})"
            ) from error
    return listens, dials
