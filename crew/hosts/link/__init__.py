"""A duplex stream between two processes, over which the work of runs goes.

Ray places hosts, names and restarts them; what they have to say to each other goes here: frames of
JSON and bytes, in order, nothing twice. See `Link` for what its end means.
"""

from crew.hosts.link.door import Address, Door, dial
from crew.hosts.link.link import Link, Work
from crew.hosts.link.message import Answer, Message

__all__ = ["Address", "Answer", "Door", "Link", "Message", "Work", "dial"]
