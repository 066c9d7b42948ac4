"""An example plug-in for envdoctor: is the cluster's scratch file system mounted?"""
