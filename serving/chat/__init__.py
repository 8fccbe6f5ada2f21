"""The chat endpoint: workflows called as models, in the OpenAI API's shapes."""
