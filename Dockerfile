# The gate in an image that holds nothing else: no shell, no package manager, not root.
FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies in a layer of their own: it is built again only when Cargo.toml or Cargo.lock change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --profile dist --locked \
    && rm -r src

COPY config config
COPY src src
# Cargo goes by the time of a file, and the copied ones can be older than the stand-ins above.
RUN touch src/main.rs src/lib.rs \
    && cargo build --profile dist --locked \
    && mkdir -p /image/data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/dist/sluicegate /usr/bin/sluicegate
COPY --from=build /build/config /etc/sluicegate
# The one folder that is written to: the disk inbox. Mount a real disk here; what is only in the container is lost with it.
COPY --from=build --chown=65532:65532 /image/data /var/lib/sluicegate/data
WORKDIR /var/lib/sluicegate
VOLUME ["/var/lib/sluicegate/data"]
# Plain HTTP/1.1 and h2c on $PORT, with TLS ended in front; or mount certificates and set SLUICEGATE__LISTENERS__TLS=files.
ENV PORT=8080 STRUCTURED_LOGS=true
EXPOSE 8080
USER 65532
ENTRYPOINT ["/usr/bin/sluicegate"]
CMD ["serve"]
