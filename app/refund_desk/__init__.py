"""The reference agent: a refund desk that reads a ticket, decides, refunds and notifies.

`hosted` is what a region's worker and API load; everything heavy is imported when it is used.
"""

from refund_desk.hosted import hosted
from refund_desk.ticket import Decision, Ticket

__all__ = ["Decision", "Ticket", "hosted"]
