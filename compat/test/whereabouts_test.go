package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/plumb-cni/plumb/test/host"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// A plugin of others, whereabouts, gives out the addresses of plumb's bridge. It keeps them in Kubernetes, here the few of its objects that it asks for.
func TestWhereabouts(t *testing.T) {
	dir := module(t, "github.com/k8snetworkplumbingwg/whereabouts", "v0.9.2")
	switched(t, dir)
	bin := t.TempDir()
	outside(t, dir, "go", "build", "-o", filepath.Join(bin, "whereabouts"), "./cmd")
	builtOnOurs(t, filepath.Join(bin, "whereabouts"))

	objects := &objects{byPath: map[string]map[string]any{}}
	api := httptest.NewServer(objects)
	t.Cleanup(api.Close)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	write(t, kubeconfig, fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"clusters":[{"name":"c","cluster":{"server":%q}}],"users":[{"name":"c","user":{}}],
		"contexts":[{"name":"c","context":{"cluster":"c","user":"c","namespace":"kube-system"}}]}`, api.URL))
	flat := filepath.Join(t.TempDir(), "whereabouts.conf") // what is the same for all networks
	write(t, flat, fmt.Sprintf(`{"kubernetes":{"kubeconfig":%q},"log_file":%q,"log_level":"error"}`, kubeconfig, filepath.Join(t.TempDir(), "log")))
	list, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":"pods","plugins":[
		{"type":"bridge","bridge":"pods0","isGateway":true,
		 "ipam":{"type":"whereabouts","range":"10.80.0.0/24","gateway":"10.80.0.1","range_start":"10.80.0.10","enable_overlapping_ranges":false,
		         "configuration_path":%q}}]}`, flat))
	if err != nil {
		t.Fatal(err)
	}
	networks := libcni.NewCNIConfig([]string{host.Bin(t), bin}, nil)
	var attached []*libcni.RuntimeConf
	addresses := map[string]string{}
	for _, id := range []string{"pod1", "pod2"} {
		rt := &libcni.RuntimeConf{
			ContainerID: id, NetNS: host.NetNS(t), IfName: "eth0",
			Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", id}},
		}
		added, err := networks.AddNetworkList(t.Context(), list, rt)
		if err != nil {
			t.Fatal(err)
		}
		attached = append(attached, rt)
		result, err := types100.GetResult(added)
		if err != nil || len(result.IPs) != 1 {
			t.Fatalf("%+v, %v", result, err)
		}
		addresses[id] = result.IPs[0].Address.IP.String()
		host.Ping(t, rt.NetNS, "10.80.0.1")
		// It says of itself that it has no CHECK, and that comes through.
		if err := networks.CheckNetworkList(t.Context(), list, rt); err == nil || !strings.Contains(err.Error(), "CHECK method is not implemented") {
			t.Errorf("CHECK: %v", err)
		}
	}
	if addresses["pod1"] == addresses["pod2"] || !strings.HasPrefix(addresses["pod1"], "10.80.0.1") {
		t.Fatalf("addresses %v", addresses)
	}
	host.Ping(t, attached[0].NetNS, addresses["pod2"])
	if kept := objects.allocations(); len(kept) != 2 {
		t.Errorf("Kubernetes knows of %v", kept)
	}
	for _, rt := range attached {
		if err := networks.DelNetworkList(t.Context(), list, rt); err != nil {
			t.Error(err)
		}
	}
	if kept := objects.allocations(); len(kept) != 0 {
		t.Errorf("left in Kubernetes: %v", kept)
	}
	host.Run(t, "ip", "link", "del", "pods0")
}

// objects are what whereabouts needs of the Kubernetes API: single objects by their paths, with versions that guard changes.
type objects struct {
	mu      sync.Mutex
	byPath  map[string]map[string]any
	version int
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	fail := func(code int, reason string) {
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}) //nolint:errcheck // the client notices
	}
	key := r.URL.Path
	found, ok := o.byPath[key]
	var sent any
	if r.Body != nil && r.Method != http.MethodGet && r.Method != http.MethodDelete {
		if err := json.NewDecoder(r.Body).Decode(&sent); err != nil {
			fail(http.StatusBadRequest, "BadRequest")
			return
		}
	}
	object, _ := sent.(map[string]any)
	switch r.Method {
	case http.MethodPost:
		if _, in, ok := strings.Cut(key, "/namespaces/"); ok {
			metadata(object)["namespace"], _, _ = strings.Cut(in, "/")
		}
		key = path.Join(key, metadata(object)["name"].(string))
		if _, ok := o.byPath[key]; ok {
			fail(http.StatusConflict, "AlreadyExists")
			return
		}
	case http.MethodPut:
		if !ok || metadata(object)["resourceVersion"] != metadata(found)["resourceVersion"] {
			fail(http.StatusConflict, "Conflict")
			return
		}
	case http.MethodPatch:
		if !ok {
			fail(http.StatusNotFound, "NotFound")
			return
		}
		if !patch(found, sent.([]any)) {
			fail(http.StatusUnprocessableEntity, "Invalid")
			return
		}
		object = found
	default:
		if strings.HasSuffix(key, "/ippools") { // a list, by which whereabouts asks whether the API is there
			found, ok = map[string]any{"metadata": map[string]any{}, "items": []any{}}, true
		}
		if !ok {
			fail(http.StatusNotFound, "NotFound")
			return
		}
		if r.Method == http.MethodDelete {
			delete(o.byPath, key)
		}
		json.NewEncoder(w).Encode(found) //nolint:errcheck // the client notices
		return
	}
	o.version++
	metadata(object)["resourceVersion"] = strconv.Itoa(o.version)
	o.byPath[key] = object
	json.NewEncoder(w).Encode(object) //nolint:errcheck // the client notices
}

// allocations are the addresses that are given out.
func (o *objects) allocations() map[string]any {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := map[string]any{}
	for key, object := range o.byPath {
		if !strings.Contains(key, "/ippools/") {
			continue
		}
		spec, _ := object["spec"].(map[string]any)
		given, _ := spec["allocations"].(map[string]any)
		for address, to := range given {
			all[address] = to
		}
	}
	return all
}

func metadata(object map[string]any) map[string]any {
	m, _ := object["metadata"].(map[string]any)
	return m
}

// patch does the operations of a JSON patch (RFC 6902) that there are for members of objects, and reports whether its tests hold.
func patch(object map[string]any, operations []any) bool {
	for _, op := range operations {
		op := op.(map[string]any)
		parts := strings.Split(strings.TrimPrefix(op["path"].(string), "/"), "/")
		at, last := object, parts[len(parts)-1]
		for _, part := range parts[:len(parts)-1] {
			var ok bool
			if at, ok = at[part].(map[string]any); !ok {
				return false
			}
		}
		switch op["op"] {
		case "test":
			if at[last] != op["value"] {
				return false
			}
		case "add", "replace":
			at[last] = op["value"]
		case "remove":
			delete(at, last)
		default:
			return false
		}
	}
	return true
}
