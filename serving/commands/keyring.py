"""`crew keys`: make keys for the endpoint, and list them."""

from collections.abc import Sequence
from pathlib import Path

from serving.access.keys import load_keys, new_key
from serving.commands.output import notes, results, show, show_json


def make_key(
    file: Path, tenant: str, name: str | None, roles: Sequence[str], *, as_json: bool
) -> None:
    """Make a key and print its secret."""
    results()
    key, secret = new_key(file, tenant=tenant, name=name, roles=roles)
    if as_json:
        facts = key.model_dump(exclude={"sha256"}, exclude_defaults=True)
        show_json({**facts, "file": str(file), "secret": secret})
    else:
        show(secret)
    notes(quiet=as_json).print(
        f"key {key.name} of tenant {key.tenant} is in {file}, as a hash: this is the only time its "
        f"secret is shown\nserve with it: crew serve --keys {file}",
        markup=False,
    )


def show_keys(file: Path, *, as_json: bool) -> None:
    """Print the keys of a file, with their roles and limits, without their hashes."""
    results()
    keys = [key.model_dump(exclude={"sha256"}, exclude_defaults=True) for key in load_keys(file)]
    if as_json:
        show_json(keys)
        return
    for fields in keys:
        roles = [f"roles={','.join(fields.pop('roles'))}"] if "roles" in fields else []
        limits = [f"{name}={value}" for name, value in list(fields.items())[2:]]
        show(
            "  ".join([f"{fields['name']:24}", f"{fields['tenant']:24}", *roles, *limits]).rstrip()
        )
