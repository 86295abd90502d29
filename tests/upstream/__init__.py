"""PydanticAI's own tests for its integration with DBOS, run with `pydantic_ai_dapr` in its place."""
