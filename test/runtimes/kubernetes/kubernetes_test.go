// Package kubernetes takes deploy/kubernetes at its word: the manifest is decoded with the types of the API, and its containers' commands
// are run as the kubelet would run them, on a node where a pod is attached meanwhile.
package kubernetes

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	yamls "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/test/host"
)

func TestMain(m *testing.M) { host.Main(m) }

// A deployment is what the manifest holds.
type deployment struct {
	lists core.ConfigMap
	set   apps.DaemonSet
}

// folder is that of the deployment's files.
func folder(t *testing.T) string { return filepath.Join(host.Root(t), "deploy/kubernetes") }

// decode reads the manifest, in which every field has to be one of the API's.
func decode(t *testing.T) (d deployment) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder(t), "plumb.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	documents := yamls.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	seen := make(map[string]bool)
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		known := map[string]any{"v1/ConfigMap": &d.lists, "apps/v1/DaemonSet": &d.set}
		name := kind.APIVersion + "/" + kind.Kind
		switch {
		case kind.Kind == "": // the comment at the beginning
		case known[name] == nil || seen[name]:
			t.Errorf("the manifest has a %s, or another one", name)
		default:
			if err := yaml.UnmarshalStrict(document, known[name]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			seen[name] = true
		}
	}
	if len(seen) != 2 {
		t.Fatalf("the manifest holds %v", seen)
	}
	return d
}

// What the API server would refuse.
func TestManifest(t *testing.T) {
	d := decode(t)
	pod := d.set.Spec.Template
	names := func(what string, problems []string, of ...string) {
		if len(problems) > 0 {
			t.Errorf("%s %q: %v", what, of, problems)
		}
	}
	for _, o := range []meta.ObjectMeta{d.lists.ObjectMeta, d.set.ObjectMeta} {
		names("name", validation.IsDNS1123Subdomain(o.Name), o.Name)
		names("namespace", validation.IsDNS1123Label(o.Namespace), o.Namespace)
	}
	for _, set := range []map[string]string{d.lists.Labels, d.set.Labels, pod.Labels, d.set.Spec.Selector.MatchLabels, pod.Spec.NodeSelector} {
		for key, value := range set {
			names("label", append(content.IsLabelKey(key), content.IsLabelValue(value)...), key, value)
		}
	}
	selector, err := meta.LabelSelectorAsSelector(d.set.Spec.Selector)
	if err != nil || selector.Empty() || !selector.Matches(labels.Set(pod.Labels)) {
		t.Errorf("the selector %v does not match the labels %v of the template (%v)", selector, pod.Labels, err)
	}
	if pod.Spec.PriorityClassName == "system-node-critical" && d.set.Namespace != meta.NamespaceSystem {
		t.Error("the priority class is for namespace kube-system")
	}
	if !pod.Spec.HostNetwork {
		t.Error("the pods need a network in order to make one")
	}
	everywhere := false
	for _, toleration := range pod.Spec.Tolerations {
		everywhere = everywhere || toleration.Operator == core.TolerationOpExists && toleration.Key == "" && toleration.Effect == ""
	}
	if !everywhere {
		t.Error("a node that isn't ready yet keeps the pods out")
	}
	volumes := make(map[string]core.Volume)
	for _, v := range pod.Spec.Volumes {
		names("volume", validation.IsDNS1123Label(v.Name), v.Name)
		if v.HostPath != nil && (!filepath.IsAbs(v.HostPath.Path) || v.HostPath.Type == nil || *v.HostPath.Type != core.HostPathDirectoryOrCreate) {
			t.Errorf("volume %s: %+v", v.Name, v.HostPath)
		}
		if v.ConfigMap != nil && v.ConfigMap.Name != d.lists.Name {
			t.Errorf("volume %s is of ConfigMap %s, which is none", v.Name, v.ConfigMap.Name)
		}
		volumes[v.Name] = v
	}
	mounted := make(map[string]bool)
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		names("container", validation.IsDNS1123Label(c.Name), c.Name)
		if s := c.SecurityContext; s == nil || s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.Capabilities.Drop[0] != "ALL" || s.Capabilities.Add != nil {
			t.Errorf("container %s may do too much: %+v", c.Name, s)
		}
		if c.Image == "" || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().Cmp(*c.Resources.Limits.Memory()) > 0 {
			t.Errorf("container %s: image %q, resources %+v", c.Name, c.Image, c.Resources)
		}
		for _, m := range c.VolumeMounts {
			if _, ok := volumes[m.Name]; !ok || !filepath.IsAbs(m.MountPath) {
				t.Errorf("container %s mounts volume %s to %q", c.Name, m.Name, m.MountPath)
			}
			mounted[m.Name] = true
		}
	}
	if len(mounted) != len(volumes) {
		t.Errorf("mounted are %v of %d volumes", mounted, len(volumes))
	}
	for key, text := range d.lists.Data {
		names("key", validation.IsConfigMapKey(key), key)
		if list, err := cni.ParseList([]byte(text)); err != nil || !strings.HasSuffix(key, ".conflist") {
			t.Errorf("%s: %+v, %v", key, list, err)
		}
	}
}
