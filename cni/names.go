package cni

// ValidateName checks a network name.
func ValidateName(name string) error { return errTodo }

// ValidateContainerID checks a container ID.
func ValidateContainerID(id string) error { return errTodo }

// ValidateIfName checks an interface name.
func ValidateIfName(name string) error { return errTodo }
