// Package examples holds whole applications, each in a folder with a README.
// Its tests run every one of them as a user would, through the real kar binary
// and the SDKs that were published for KAR 1.x.
package examples
