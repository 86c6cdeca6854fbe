// Package docs keeps what the documentation shows true: its examples are files that work, its commands run, its links lead somewhere.
package docs
