"""A catalogue of spare parts, as a server of the Model Context Protocol; `workshop.py` asks it."""

from mcp.server.mcpserver import MCPServer

PARTS = {
    "P-100": ("pump", "turns in heating circuits, 25 W", 8900),
    "P-110": ("pump seal", "rubber, for the P-100", 450),
    "P-200": ("thermostat", "for radiators, white", 1500),
}
server = MCPServer("parts", log_level="ERROR")


@server.tool()
def find(words: str) -> list[str]:
    """Find parts by words of their description."""
    wanted = words.lower().split()
    return [
        f"{number}: {name}, {description}, {cents / 100:.2f}"
        for number, (name, description, cents) in PARTS.items()
        if any(word in f"{name} {description}".lower() for word in wanted)
    ]


if __name__ == "__main__":
    server.run()
