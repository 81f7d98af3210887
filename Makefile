# Each target installs what it needs (scripts/deps; as root, on Debian) and says so when it can't.

.PHONY: all build walk deb release test test-runtimes test-debian test-vm test-race lint fuzz bench bench-bandwidth bench-runtimes clean

all: build

build: # fills ./bin
	@scripts/deps build
	@scripts/build bin

walk: build # plays the README's session on a private host
	@scripts/deps
	@scripts/walk

deb: # the Debian package of this machine's architecture, into ./dist
	@scripts/deps build
	@scripts/deb dist

release: # all that is published, into ./dist: built twice, and compared
	@scripts/deps build
	@scripts/release --twice dist

test: lint # in private network and mount namespaces; needs root
	@scripts/deps
	@scripts/test

test-runtimes: # the plugins in the hands of podman, containerd and Docker, in private namespaces too; needs root
	@scripts/deps runtimes
	@scripts/test-runtimes

test-debian: # the Debian package, installed beside Debian's own of plugins, used, upgraded and purged; needs root
	@scripts/deps
	@scripts/test-debian

test-vm: # the tests that depend on the kernel, on Debian's under qemu: this one may lack modules
	@scripts/test-vm

test-race: # what goroutines call at the same time, with Go's race detector; needs root
	@scripts/deps race
	@go test -race -count=1 -timeout 20m ./inprocess ./runtime ./netdir ./state ./internal/... ./ipam/...

lint:
	@scripts/deps build
	@scripts/lint

fuzz: # every fuzz target for a minute, or FUZZTIME=10s
	@scripts/deps
	@scripts/fuzz

bench: # plumb beside the reference plugins, netavark and the kernel alone, nine minutes; OUT=FOLDER keeps figures and plots; RUN=TestBench/crowd is one row
	@scripts/deps
	@go test -count=1 -timeout 30m -v -run "$(or $(RUN),.)" ./test/bench -args -rounds=$(or $(ROUNDS),40) $(if $(OUT),-out=$(abspath $(OUT)))

bench-bandwidth: # what TCP achieves within limits of 10 Mbit/s to 1 Gbit/s, and the round trip meanwhile; on a quiet machine
	@scripts/deps
	@go test -count=1 -timeout 10m -v -run TestRate ./plugins/bandwidth -args -figures

bench-runtimes: # what runtimes take with the reference's plugins and with ours, and the plugins' share of it
	@scripts/deps runtimes
	@cd test/runtimes && go test -count=1 -timeout 20m -v -p 1 -run TestBench ./podman ./containerd -args -rounds=$(or $(ROUNDS),20)

clean:
	rm -rf bin dist
