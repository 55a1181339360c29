# The rank files that the tokenizer reads, under the names of tiktoken's own cache (build.py says why).
ENCODINGS := $(addprefix layers/tiktoken/encodings/, \
	fb374d419588a4632f3f557e76b4b70aebbca790 \
	9b5ad71b2ce5302211f9c61530b329a4922fc6a4)

$(ENCODINGS): layers/tiktoken/build.py node_modules/.package-lock.json .venv/.run
	$(BIN)/python layers/tiktoken/build.py
