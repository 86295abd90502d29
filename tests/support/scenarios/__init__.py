"""What an agent's run can be made of: one scenario for each feature, of each of which all that is compared holds."""

from tests.support.scenarios import capabilities, control, mcp, messages, models, outputs, streams, tools, toolsets
from tests.support.scenarios.scenario import SCENARIOS, Scenario

__all__ = [
    "SCENARIOS",
    "Scenario",
    "capabilities",
    "control",
    "mcp",
    "messages",
    "models",
    "outputs",
    "streams",
    "tools",
    "toolsets",
]
