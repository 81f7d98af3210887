package inprocess_test

import (
	"context"
	"log"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/inprocess"
	"github.com/plumb-cni/plumb/runtime"
)

// A runtime adds a container to a network and deletes it again.
func Example() {
	list, err := cni.LoadList("/etc/cni/net.d/10-pods.conflist")
	if err != nil {
		log.Fatal(err)
	}
	invoker := inprocess.New(inprocess.Options{})
	defer invoker.Close()
	r := &runtime.Runtime{Path: []string{"/opt/cni/bin"}, Invoker: invoker}

	a := runtime.Attachment{ContainerID: "c0ffee", NetNS: "/run/netns/c0ffee", IfName: "eth0"}
	result, err := r.Add(context.Background(), list, a)
	if err != nil {
		log.Print(err)
	} else {
		log.Print(result.IPs)
	}
	// Also after an ADD that failed.
	if err := r.Del(context.Background(), list, a); err != nil {
		log.Print(err)
	}
}
