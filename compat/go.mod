module github.com/containernetworking/cni

go 1.26.0

require (
	github.com/plumb-cni/plumb v0.0.0
	go.opentelemetry.io/otel v1.35.0
	go.opentelemetry.io/otel/trace v1.35.0
)

require (
	github.com/godbus/dbus/v5 v5.2.4 // indirect
	github.com/vishvananda/netlink v1.3.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/plumb-cni/plumb => ../
