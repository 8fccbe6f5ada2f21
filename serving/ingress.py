"""The chat endpoint in a Ray Serve replica."""

from typing import Any

from serving.pinned import find_package

__all__ = ["ChatIngress"]


class ChatIngress:
    """Opens a runtime of its own and serves the chat app over it.

    Args:
        workflows: pickled by `cloudpickle`: they can only be read once `crew` is found.
        settings: fields of `crew.config.Settings`.
        input_defaults: see `serving.app.create_app`.
        keys: fields of `serving.access.keys.Key`, of those who may call.
        mcp: see `serving.app.create_app`.
    """

    async def __init__(
        self,
        *,
        workflows: bytes,
        settings: dict[str, Any],
        input_defaults: dict[str, object],
        keys: list[dict[str, Any]],
        mcp: bool,
    ) -> None:
        find_package("crew", "errors.py")
        find_package("serving", "ingress.py")
        from ray import cloudpickle

        from crew.config import settings_from
        from crew.run import Runtime
        from crew.telemetry.setup import configure
        from serving.access.keys import Key
        from serving.app import create_app

        loaded, in_force = cloudpickle.loads(workflows), settings_from(settings)
        configure(in_force)
        self._runtime = Runtime(workflows=loaded, settings=in_force)
        await self._runtime.__aenter__()
        self._app = create_app(
            self._runtime,
            loaded,
            settings=in_force,
            input_defaults=input_defaults,
            keys=[Key(**fields) for fields in keys],
            mcp=mcp,
        )

    def __serve_build_asgi_app__(self) -> Any:
        """Asked for by Serve after the constructor."""
        return self._app

    async def __del__(self) -> None:
        """Called by Serve after the last request was answered; running runs stay resumable."""
        if runtime := getattr(self, "_runtime", None):
            await runtime.__aexit__(None, None, None)
