"""The region that is active no more stops neither its sidecars nor its workers."""

from chaos.plants.hook import after_import
from chaos.plants.patches import keep_sidecars, keep_workers

after_import("region_agent.activation", keep_sidecars)
after_import("service.role", keep_workers)
