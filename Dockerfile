# The server as an image, in three stages: one compiles, one installs what runs, and the last only copies the results of
# both onto the base: the compiled server and its production dependencies, no compiler and no sources.
# scripts/check-dockerfile.ts holds it to rules; scripts/docker-stages.sh runs it without a container engine.
ARG BASE=node:24.21.0-bookworm-slim

FROM ${BASE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY scripts ./scripts
COPY routes ./routes
COPY src ./src
RUN npm run build

FROM ${BASE} AS production
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts
# The empty folder that becomes /data below, so that a new volume belongs to the user of the last stage.
RUN mkdir data

FROM ${BASE}
LABEL org.opencontainers.image.title="adamax-server" \
      org.opencontainers.image.description="Named Adamax optimizer sessions over plain HTTP: a REST parameter server with TensorFlow's numbers, bit for bit"
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8080 DATA_DIR=/data
WORKDIR /app
COPY package.json openapi.yaml ./
COPY --from=production /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=production --chown=10001:10001 /app/data /data
# A number, because Kubernetes' runAsNonRoot cannot judge a name. The program's files stay root's.
USER 10001:10001
VOLUME /data
EXPOSE 8080
# Alive, not ready: a server that is still reading large checkpoints back must not be restarted for it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "dist/src/health.js"]
STOPSIGNAL SIGTERM
# Without npm or a shell in between, the signal reaches the server itself.
ENTRYPOINT ["node", "dist/src/server.js"]
