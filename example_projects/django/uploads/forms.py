"""The upload form."""

from django import forms

from .models import Upload


class UploadForm(forms.ModelForm):
    note = forms.CharField(required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2}))

    class Meta:
        model = Upload
        fields = ("title", "note", "file")
