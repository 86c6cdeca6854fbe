// Package crd asks Kubernetes' own code what it makes of our CustomResourceDefinitions and of objects of them.
package crd
