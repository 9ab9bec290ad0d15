// Package check tells whether this machine is susceptible to the losses of Xen's
// network frontend, and to which: one finding for each thing that matters, with
// the evidence it stands on and advice.
//
// Reading and judging are apart. [Read] takes the facts from a [Source], each
// with the reason where it cannot be had; [Judge] looks at nothing but those
// facts. Nothing on the machine is changed.
package check
