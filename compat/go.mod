module github.com/containernetworking/cni

go 1.26.0

require (
	github.com/plumb-cni/plumb v0.0.0
	go.opentelemetry.io/otel v1.35.0
	go.opentelemetry.io/otel/trace v1.35.0
)

replace github.com/plumb-cni/plumb => ../
