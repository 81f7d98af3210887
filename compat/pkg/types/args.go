package types

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/plumb-cni/plumb/cni"
)

// An UnmarshallableBool is a bool in CNI_ARGS: 1, true, 0 or false, in any case.
type UnmarshallableBool bool

// UnmarshalText sets b.
func (b *UnmarshallableBool) UnmarshalText(data []byte) error {
	switch strings.ToLower(string(data)) {
	case "1", "true":
		*b = true
	case "0", "false":
		*b = false
	default:
		return fmt.Errorf("%q is neither true nor false", data)
	}
	return nil
}

// An UnmarshallableString is a string in CNI_ARGS.
type UnmarshallableString string

// UnmarshalText sets s.
func (s *UnmarshallableString) UnmarshalText(data []byte) error {
	*s = UnmarshallableString(data)
	return nil
}

// CommonArgs has the argument that every plugin understands. A struct for LoadArgs
// has to embed it.
type CommonArgs struct {
	IgnoreUnknown UnmarshallableBool `json:"ignoreunknown,omitempty"`
}

// An UnmarshalableArgsError says that a field can't take an argument: the
// mistake is the program's, not the caller's.
type UnmarshalableArgsError struct {
	error
}

// GetKeyField returns the field of that name of the struct that v points to, the
// zero Value if there is none.
func GetKeyField(keyString string, v reflect.Value) reflect.Value {
	return v.Elem().FieldByName(keyString)
}

// LoadArgs decodes CNI_ARGS, "KEY=value;KEY2=value2", into the fields of these
// names of the struct that container points to. They have to implement
// encoding.TextUnmarshaler, and the struct has to embed CommonArgs. A key without
// a field is an error unless IgnoreUnknown is set.
func LoadArgs(args string, container interface{}) error {
	parsed, err := cni.ParseArgs(args)
	if err != nil || args == "" {
		return err
	}
	target := reflect.ValueOf(container)
	var unknown []string
	for key, value := range parsed.All() {
		field := GetKeyField(key, target)
		if !field.IsValid() {
			unknown = append(unknown, key+"="+value)
			continue
		}
		to, err := unmarshaler(key, field)
		if err != nil {
			return err
		}
		if err := to.UnmarshalText([]byte(value)); err != nil {
			return fmt.Errorf("CNI_ARGS: %s=%s: %w", key, value, err)
		}
	}
	if len(unknown) > 0 && !GetKeyField("IgnoreUnknown", target).Bool() {
		return fmt.Errorf("CNI_ARGS: unknown arguments %q", unknown)
	}
	return nil
}

// unmarshaler returns what sets a field. A pointer gets something to point to.
func unmarshaler(key string, field reflect.Value) (encoding.TextUnmarshaler, error) {
	if !field.CanSet() {
		return nil, UnmarshalableArgsError{fmt.Errorf("CNI_ARGS: field %s can't be set", key)}
	}
	if field.Kind() == reflect.Pointer {
		field.Set(reflect.New(field.Type().Elem()))
	} else {
		field = field.Addr()
	}
	to, ok := field.Interface().(encoding.TextUnmarshaler)
	if !ok {
		return nil, UnmarshalableArgsError{fmt.Errorf("CNI_ARGS: field %s of type %s is no encoding.TextUnmarshaler", key, field.Type())}
	}
	return to, nil
}
