// Package guest holds the tests that run inside the Xen lab's guest, as root, on
// a real xen-netfront. They are built with the tag xenlab by test/xen/suite, which
// runs them, and fail anywhere else. The guest's environment and the peer on the
// other end of its interface are described in test/xen/README.md.
package guest
