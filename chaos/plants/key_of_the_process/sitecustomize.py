"""An effect's key names the process that sends it."""

from chaos.plants.hook import after_import
from chaos.plants.patches import name_the_process_in_keys

after_import("pydantic_ai_dapr.types", name_the_process_in_keys)
