// Package v1alpha1 is the API: the types of the kinds, how they are defaulted and what makes them valid.
//
// +k8s:deepcopy-gen=package
// +groupName=events.openfunction.io
package v1alpha1
