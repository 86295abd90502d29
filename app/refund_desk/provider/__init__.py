"""Two simulated model providers, outside both regions: OpenAI's chat completions, answered by the desk's script.

Nothing of a language model is in them. They are there so that an agent meets a provider over the network, with its
real client, and the bench can say how that provider behaves.
"""

from typing import Literal, get_args

ProviderName = Literal["first", "second"]
PROVIDERS: tuple[ProviderName, ...] = get_args(ProviderName)
"""The agent asks the second where the first fails."""

__all__ = ["PROVIDERS", "ProviderName"]
