module github.com/plumb-cni/plumb/test/debian

go 1.26.0

require github.com/plumb-cni/plumb v0.0.0

replace github.com/plumb-cni/plumb => ../..
