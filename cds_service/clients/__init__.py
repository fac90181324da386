"""Who may call, and where a call may lead: the clients file, JWTs and key sets."""

from cds_service.clients.callers import Caller, Clients
from cds_service.clients.file import Backend, Client, ClientsFileError

__all__ = ["Backend", "Caller", "Client", "Clients", "ClientsFileError"]
