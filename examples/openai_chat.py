"""The OpenAI client, unchanged, against `baton up`: `pip install openai`, then `python examples/openai_chat.py`."""

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="unused where no credentials are configured")
model = client.models.list().data[0].id
stream = client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "Write a function that reads a file."}],
    stream=True,
    max_tokens=64,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
