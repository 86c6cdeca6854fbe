// Package house keeps the layers of the tree and its habits by tests.
package house
